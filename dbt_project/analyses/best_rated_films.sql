-- Which films are rated best, a film with few ratings being drawn towards the mean of all?
with films as (

    select * from {{ ref('dim_movies') }}
    where rating_count > 0

),

overall as (

    select sum(rating_count * rating_mean) / sum(rating_count) as mean
    from films

)

select
    films.title,
    films.year,
    films.rating_count,
    films.rating_mean,
    -- As if each film had 50 more ratings of the overall mean.
    round((films.rating_count * films.rating_mean + 50 * overall.mean) / (films.rating_count + 50), 3) as weighted_mean
from films
cross join overall
order by weighted_mean desc, films.movie_key asc
limit 10
