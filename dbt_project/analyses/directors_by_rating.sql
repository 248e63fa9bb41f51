-- Which directors of three films or more are rated best?
with directed as (

    select distinct
        nconst,
        person_name,
        movie_key
    from {{ ref('fct_credits') }}
    where category = 'director'

)

select
    directed.person_name as director,
    count(*) as films,
    sum(movies.rating_count) as ratings,
    round(sum(movies.rating_count * movies.rating_mean) / sum(movies.rating_count), 3) as rating_mean
from directed
inner join {{ ref('dim_movies') }} as movies on directed.movie_key = movies.movie_key
where movies.rating_count > 0
group by directed.nconst, directed.person_name
having count(*) >= 3
order by rating_mean desc, directed.nconst asc
limit 10
