-- Are long films rated better than short ones?
select
    case
        when runtime_minutes < 90 then 'less than 90 min'
        when runtime_minutes < 120 then '90 to 119 min'
        else '120 min and more'
    end as runtime,
    count(*) as films,
    sum(rating_count) as ratings,
    round(sum(rating_count * rating_mean) / sum(rating_count), 3) as rating_mean
from {{ ref('dim_movies') }}
where rating_count > 0 and runtime_minutes is not null
group by runtime
order by min(runtime_minutes)
