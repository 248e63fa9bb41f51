-- Which actors play in the most films, and from when to when?
with played as (

    select distinct
        nconst,
        person_name,
        movie_key
    from {{ ref('fct_credits') }}
    where category in ('actor', 'actress')

)

select
    played.person_name as actor,
    count(*) as films,
    min(movies.year) as first_year,
    max(movies.year) as last_year
from played
inner join {{ ref('dim_movies') }} as movies on played.movie_key = movies.movie_key
group by played.nconst, played.person_name
order by films desc, played.nconst asc
limit 10
